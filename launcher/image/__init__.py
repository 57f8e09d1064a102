"""The migration image, named by the hash of its content, so that nothing is built twice.

tag       its name in the registry, and the tag
context   the files that `docker build` would get, and one hash over all of them
revisions the revisions that it would hold: a command that names another is refused before anything is made
build     build and push it if the registry does not have it; the task then uses its digest

A checkout and a platform go in; an `Image` comes out: with a tag while it must be built, with a digest once it is in
the registry. `context` reads the files itself, as `.dockerignore` selects them: whether an image exists is known
without an engine. `docker` is started as a program, by `machine.process`.
"""
