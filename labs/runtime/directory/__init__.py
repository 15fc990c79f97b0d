"""What a run leaves: its directory, who may write there, its record, its copy elsewhere."""
