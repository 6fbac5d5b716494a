"""One self-contained page that says what a data set of answers means, and the files behind it."""
