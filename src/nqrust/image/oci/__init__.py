"""Images of containers (OCI): names, layouts, layers, and the image that a VM boots from them."""
