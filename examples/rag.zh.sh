curl -G http://127.0.0.1:8000/rag --data-urlencode 'question=游标是什么'
curl -N -H 'Accept: text/event-stream' -G http://127.0.0.1:8000/rag --data-urlencode 'question=游标是什么'
