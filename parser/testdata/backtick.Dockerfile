# escape=`

FROM mcr.microsoft.com/windows/nanoserver
SHELL ["powershell", "-Command"]
ENV DIR=C:\app `
    NAME="a`"b"
COPY src\ C:\app\
RUN dir C:\ `
  # a comment

  ; echo done
WORKDIR C:\app
