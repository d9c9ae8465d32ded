"""The catalogue: which papers minitf is about, and which of them work.

    catalogue      the papers (``catalogue.toml``) and what each kind of paper must show
    index          who implements which paper, read from the source without importing it
    marks          which tests speak about which paper, read from the tests without importing them
    results        works / fails / not run, from what the tests last said
    freeze         writes the copy of the results that a wheel carries
    bibliography   ``references.bib``
    page           the *Papers* page of the book
    commands       ``minitf papers``

Nothing here imports a technique, so asking about papers is fast.
"""
