"""One file a page. Importing it registers its route."""
