"""Commands of the installer: install, plan, verify, uninstall and their flags."""
