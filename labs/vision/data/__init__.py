"""Image data sets, folders, downloads and preprocessing."""
