//! The commands that talk to the running agent, and what they need for it.

pub(in crate::cli) const STATUS: &str = "\
azaion-loader status: what the agent is, holds and does

  --json          the answer as the port gave it
  --url ADDRESS   the control port: 127.0.0.1:8080, http://10.0.0.5:8080 or unix:/run/azaion-loader/control.sock;
                  default: the first of [control] listen
  --token-file F  file with the port's bearer token; default: [control] token_file
  --config FILE   configuration to take both from; default /etc/azaion/loader.toml

Examples:
  azaion-loader status
  azaion-loader status --json --url 127.0.0.1:8080";

pub(in crate::cli) const LOGIN: &str = "\
azaion-loader login: logs the agent in, and says as whom; it holds the credentials until it ends

Who logs in, one of:
  --email ADDRESS    this address; the password is asked for without showing it
  --credentials F    a file with {\"email\",\"password\"}, readable by its owner alone

The password of --email, instead of the prompt (never as an argument):
  --password-file F  the first line of F
  --password-stdin   standard input

  --json             who is logged in, as JSON: email, role
  --url ADDRESS      the control port; default: the first of [control] listen
  --token-file F     file with the port's bearer token; default: [control] token_file
  --config FILE      configuration to take both from; default /etc/azaion/loader.toml

What loads and uploads models then needs no password. To unlock as well, azaion-loader unlock takes the same options.

Exit code 1 with cause and next step when the cloud does not know the credentials, or cannot be asked.

Examples:
  azaion-loader login --email technician@example.com
  azaion-loader login --email technician@example.com --password-stdin < password.txt";

pub(in crate::cli) const UNLOCK: &str = "\
azaion-loader unlock: logs in, unlocks the board and follows it until it is ready

Who logs in, one of:
  --held             the credentials the agent holds already; the default
  --email ADDRESS    this address; the password is asked for without showing it
  --credentials F    a file with {\"email\",\"password\"}, readable by its owner alone

The password of --email, instead of the prompt (never as an argument):
  --password-file F  the first line of F
  --password-stdin   standard input

  --no-wait          return as soon as the unlock has begun
  --json             what /unlock/status answers, a line for each time that it changed; the last has the end
  --url ADDRESS      the control port; default: the first of [control] listen
  --token-file F     file with the port's bearer token; default: [control] token_file
  --config FILE      configuration to take both from; default /etc/azaion/loader.toml

Exit code 0 when the board is ready, 1 with cause and next step when it is not.

Examples:
  azaion-loader unlock --email technician@example.com
  azaion-loader unlock --email technician@example.com --password-stdin < password.txt
  azaion-loader unlock --json | jq -r .progress.seconds_left
  azaion-loader unlock --url unix:/run/azaion-loader/control.sock";

pub(in crate::cli) const WAIT: &str = "\
azaion-loader wait: returns when the board is ready, for whatever must start after it

  --timeout S      give up after S seconds, with exit code 3; default: never
  --fail-on-error  give up with exit code 1 when an unlock ends in an error; default: keep waiting, for it can be
                   asked for again
  --json           what /unlock/status answers, a line for each time that it changed
  --url ADDRESS    the control port; default: the first of [control] listen
  --token-file F   file with the port's bearer token; default: [control] token_file
  --config FILE    configuration to take both from; default /etc/azaion/loader.toml

It keeps waiting while the agent is not running yet.

Example:
  azaion-loader wait --timeout 600 && docker start suite";

pub(in crate::cli) const LOAD: &str = "\
azaion-loader load: a model, decrypted, into a file or to standard output

  azaion-loader load NAME -o FILE [--folder FOLDER]

NAME is what the model was uploaded as, typed as it is: spaces, +, % and any script. The agent must be logged in.

  --out FILE       where it goes, also as -o FILE; - is standard output, and everything else that is said then goes to
                   standard error
  --folder FOLDER  the folder it is in; default: none
  --json           name, folder, bytes, seconds and sha256 as one JSON object at the end, and no progress
  --url ADDRESS    the control port; default: the first of [control] listen
  --token-file F   file with the port's bearer token; default: [control] token_file
  --config FILE    configuration to take both from; default /etc/azaion/loader.toml

FILE appears, or is replaced, when the whole model is there and on disk, not before: whatever goes wrong, Ctrl-C and a power cut
included, leaves what was there. A link is followed; a device or a pipe is written to as it is.

Exit code 1 when the model did not come whole, with cause and next step; what standard output got is then not the whole model.
A reader that takes nothing for 10 s is cut off.

Examples:
  azaion-loader load detector.onnx --folder models -o detector.onnx
  azaion-loader load 'night vision.onnx' -o /opt/models/night.onnx --json
  azaion-loader load suite.tar --folder models -o - | tar x";

pub(in crate::cli) const UPLOAD: &str = "\
azaion-loader upload: a model to the cloud, by way of the board, which keeps a copy in its cache

  azaion-loader upload FILE [--folder FOLDER] [--name NAME]

FILE is any file; - is standard input, and then needs a name. The agent must be logged in as somebody whose role may upload.

  --name NAME      what it is called there; default: the file's own name
  --folder FOLDER  the folder it goes into; default: none
  --json           result, name, folder, bytes, seconds and sha256 as one JSON object at the end, and no progress
  --url ADDRESS    the control port; default: the first of [control] listen
  --token-file F   file with the port's bearer token; default: [control] token_file
  --config FILE    configuration to take both from; default /etc/azaion/loader.toml

It says published when the cloud has the model, and accepted when the board has it and sends it as soon as the cloud answers
again. A role that is too low, or too little room, is told before the first byte is sent.

Exit code 0 for both; 1 with cause and next step when it was refused, and nothing was replaced.

Examples:
  azaion-loader upload detector.onnx --folder models
  azaion-loader upload build/out.bin --name detector.onnx --folder models --json
  tar c dir | azaion-loader upload - --name dir.tar --folder models";

pub(in crate::cli) const EVENTS: &str = "\
azaion-loader events: what happens on the board, a line for each event, until Ctrl-C

Shown are the unlock's states, how far it is, errors with their next step, and what else a person may want to know: first what
the agent remembers, the last 64, then what happens. The time is that since the board was started.

  --since ID         only what came after the event with this id
  --json             a JSON object for each event: id, event, time, boot_ms, text, state, percent, code, next
  --url ADDRESS      the control port; default: the first of [control] listen
  --token-file F     file with the port's bearer token; default: [control] token_file
  --config FILE      configuration to take both from; default /etc/azaion/loader.toml

When the connection breaks it says so on standard error and comes back by itself, behind the last event it saw, after a pause
of 1 s that grows to 30 s.

Exit code 4 when the agent does not answer at the start; 0 when nobody reads any more (a closed pipe).

Examples:
  azaion-loader events
  azaion-loader events --json | jq -r 'select(.event == \"error\") | .text'";

pub(in crate::cli) const CHECK: &str = "\
azaion-loader check: what is well with this board and what is not, and what to do about it

The running agent looks at its configuration, the clock, the way to the cloud (name, connection, TLS, log-in, CDN), the engine,
free space, the archive, the board's fingerprint, its cache and its flash; where no agent runs this command does. A line for
each: ok, warn, fail or skip (it could not be looked at), and below it the next step. Begin with the first that fails.

  --json             the answer as JSON
  --bundle FILE      write a support file besides: checks, status, metrics, configuration, board, end of the log; plain
                     text, without passwords, tokens, keys and salts, with addresses and serial numbers as short hashes
  --url ADDRESS      the control port; default: the first of [control] listen
  --token-file F     file with the port's bearer token; default: [control] token_file
  --config FILE      configuration to take both from; default /etc/azaion/loader.toml

Exit code 0 when nothing fails, warnings included; 1 when something does.

Examples:
  azaion-loader check
  sudo azaion-loader check --bundle support.txt
  azaion-loader check --json | jq -r '.checks[] | select(.result == \"fail\") | .next'";

pub(in crate::cli) const TOKEN: &str = "\
azaion-loader token: makes a bearer token for the control port, which any address but loopback and unix sockets needs

  token new [--out FILE]   32 random bytes as base64url, to standard output or into FILE

  --out FILE   the file, made with mode 0600; one that is there is not touched
  --force      replace it

The agent runs as the user azaion-loader and must be able to read it; nobody else need. Then, in /etc/azaion/loader.toml:
[control] token_file = \"/etc/azaion/control.token\", and systemctl restart azaion-loader. Every call but /health then needs it.

Exit code 1 when no token was written, also where the file system would let others read it.

Examples:
  azaion-loader token new --out /etc/azaion/control.token
  chown azaion-loader /etc/azaion/control.token
  curl -H \"Authorization: Bearer $(cat control.token)\" http://10.0.0.5:8080/status
  azaion-loader status --url 10.0.0.5:8080 --token-file control.token";
