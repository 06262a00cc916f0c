"""What stands on top of all rooms: commands that compose a run and its pages, paper trading and its page; all of them under one name."""
