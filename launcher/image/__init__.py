"""The image of the migrations: named by the hash of its content, so that nothing is built twice.

tag       its name in the registry, and the tag
context   what `docker build` would be given: the files, and one hash over all of them
build     build and push it where the registry does not have it; what is run is then named by its digest

`docker` is started as a program, by `machine.process`.
"""
