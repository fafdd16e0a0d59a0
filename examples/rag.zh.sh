curl 'http://127.0.0.1:8000/rag?question=游标是什么'
curl -N -H 'Accept: text/event-stream' 'http://127.0.0.1:8000/rag?question=游标是什么'
