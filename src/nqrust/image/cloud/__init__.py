"""Cloud images: whole disks of a distribution, taken apart into a root file system, a kernel and an initrd."""
