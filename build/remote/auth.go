package remote

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// secret gives a secret of the build. The line end that files have is no part of it.
func (c *Client) secret(id string) (string, bool) {
	data, ok := c.o.Secrets[id]
	return strings.TrimRight(string(data), "\r\n"), ok
}

// authorize gives a request the credential that the secrets have for its host.
// Without one that of the URL, if it has one, is sent.
func (c *Client) authorize(req *http.Request) {
	host := req.URL.Hostname()
	if token, ok := c.secret("HTTP_AUTH_TOKEN_" + host); ok {
		req.Header.Set("Authorization", "Bearer "+token)
	} else if header, ok := c.secret("HTTP_AUTH_HEADER_" + host); ok {
		req.Header.Set("Authorization", header)
	}
}

// gitHeader gives the value of the Authorization header for a repository on a
// web server: the secrets', else that of the user and password in its URL, else
// none.
func (c *Client) gitHeader(remote *url.URL) string {
	for _, suffix := range []string{"." + remote.Host, ""} {
		if header, ok := c.secret("GIT_AUTH_HEADER" + suffix); ok {
			return header
		}
		if token, ok := c.secret("GIT_AUTH_TOKEN" + suffix); ok {
			return basic("x-access-token", token)
		}
	}
	if remote.User != nil {
		password, _ := remote.User.Password()
		return basic(remote.User.Username(), password)
	}
	return ""
}

func basic(user, password string) string {
	return "basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// hostOf is the host of a URL, without the port.
func hostOf(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return ""
	}
	return u.Hostname()
}
