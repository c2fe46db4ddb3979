"""What `make bench` is made of: data, systems, load, rows, tables. serve.py beside this folder is the command."""
