"""nginx with nchan, one worker: ``python -m bench.servers.nchan <files of nginx> <scratch> <port>``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CONFIGURATION = """\
load_module {nginx}/usr/lib/nginx/modules/ngx_nchan_module.so;
user root;
daemon off;
worker_processes 1;
pid {scratch}/nginx.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    nchan_shared_memory_size 1024M;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/publish/(.+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
            nchan_message_buffer_length 20000;
            nchan_message_timeout 10m;
        }}
        location ~ ^/watch/(.+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_subscriber_first_message oldest;
        }}
    }}
}}
"""


def main(nginx: str, scratch: str, port: str) -> None:
    """Becomes nginx."""
    text = CONFIGURATION.format(nginx=nginx, scratch=scratch, port=port)
    if os.geteuid():
        text = text.replace("user root;\n", "")
    file = Path(scratch, "nginx.conf")
    file.write_text(text)
    program = f"{nginx}/usr/sbin/nginx"
    os.execv(program, [program, "-e", "stderr", "-p", scratch, "-c", str(file)])


if __name__ == "__main__":
    main(*sys.argv[1:4])
