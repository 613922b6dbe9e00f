"""VMs that hosts report and no record describes: listed, adopted or deleted."""
