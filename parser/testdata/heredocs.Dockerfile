FROM debian
RUN <<EOF
apt-get update
apt-get install -y \
  curl
EOF
RUN <<-'PY' python3
	import sys
	print("$HOME")
	PY
COPY <<motd <<"raw" /etc/
welcome to $HOSTNAME
motd
$not expanded
raw
RUN <<run.sh
#!/usr/bin/env bash
echo <<EOF
run.sh
ADD <<-x plain.txt /srv/
	tabbed
		twice
	x
ONBUILD RUN <<EOF cat 3<<OTHER
one
EOF
two
OTHER
