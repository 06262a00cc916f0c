from .comparison import write_comparison as write_comparison
from .page import build_pages as build_pages
from .run_folder import Run as Run
from .run_folder import load_run as load_run
