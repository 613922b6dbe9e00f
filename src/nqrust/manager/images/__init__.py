"""Images: registered folders, downloads, and blobs for hosts."""
