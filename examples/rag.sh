curl 'http://127.0.0.1:8000/rag?question=What+is+a+cursor'
curl -N -H 'Accept: text/event-stream' 'http://127.0.0.1:8000/rag?question=What+is+a+cursor'
