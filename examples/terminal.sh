tidelog runs         # mine, newest first
tidelog tail RUN     # follows a run; comes back by itself after a lost connection or a restart
tidelog publish RUN  # makes a run of a pipe: make 2>&1 | tidelog publish
tidelog pause RUN    # paused, already_paused, already_ended or pausing
tidelog resume RUN   # resumed, not_paused, already_ended or resuming
tidelog stop RUN     # stopped, already_ended or stopping
tidelog answer RUN q1 yes   # answers a question: answered or answering
tidelog key ann      # an API key for ann, and the line for the file of TIDELOG_API_KEYS
