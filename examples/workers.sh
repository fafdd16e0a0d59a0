tidelog serve module:app --workers 4      # one port; a worker that dies is replaced
uvicorn module:app --workers 4            # the same file under plain uvicorn
