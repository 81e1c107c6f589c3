"""What runs inside a Python process and tells the house about it: pulse, creation sites, routes.

Shared by containers, which import it, and by unmodified guests, into which ``boot/sitecustomize.py`` brings it. So nothing
here may be dear to import, and nothing may change what a program sees.
"""
