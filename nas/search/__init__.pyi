from .sequences import SequenceResult as SequenceResult
from .sequences import search_sequences as search_sequences
from .single import search as search
