"""Pictures of the documentation, drawn by the project's own code: `python -m docs.pictures` writes all of them anew."""
