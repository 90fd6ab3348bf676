"""One module per section of the analysis: tables in, rows of ESTIMATES out."""
