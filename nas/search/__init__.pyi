from .single import search as search
