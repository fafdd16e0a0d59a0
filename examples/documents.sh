curl -N -H 'Accept: text/event-stream' -F files=@notes.md http://127.0.0.1:8000/documents   # its progress
curl http://127.0.0.1:8000/documents                                                        # what there is
curl -X DELETE http://127.0.0.1:8000/documents/notes.md
