"""Files and folders of this machine, ingested or kept in sync."""
