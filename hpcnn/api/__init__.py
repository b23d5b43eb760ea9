"""hpcnn as a library, for notebooks and scripts: what `import hpcnn` offers, loaded when it is first asked for."""
