for name in "$@"; do
	echo "$greeting, $name!"
done
