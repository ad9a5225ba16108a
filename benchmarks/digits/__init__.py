"""Small trained networks on collages of handwritten digits: does a map of relevance tell one class from another?"""
