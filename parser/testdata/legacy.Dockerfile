# a comment
# escape=`

from busybox as Old
maintainer Someone <someone@example.com>
  env KEY some  value with "quotes" and \
      a second line
label a b
add a.tar \
    # inside

    /dst/
run echo a\\b \
  b \	
  c # not a comment
EXPOSE 80/TCP
CMD ['not', "json"]
CMD echo "$KEY"
healthcheck none
onbuild add . /app
