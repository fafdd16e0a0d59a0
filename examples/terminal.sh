tidelog runs         # mine, newest first
tidelog tail RUN     # follows a run; comes back by itself after a lost connection or a restart
tidelog stop RUN     # stopped, already_ended or stopping
