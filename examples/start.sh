make serve   # http://127.0.0.1:8000 - PORT=8001 changes the port, DOCS=folder names your documents
make test    # every test
