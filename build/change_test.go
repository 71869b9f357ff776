package build

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/ocibuild/ocibuild/image"
	"github.com/ocibuild/ocibuild/parser"
)

func afterChanges(t *testing.T, base image.RunConfig, texts ...string) (image.RunConfig, error) {
	t.Helper()
	var changes []Change
	for _, text := range texts {
		c, err := ParseChange(text)
		if err != nil {
			return base, err
		}
		changes = append(changes, c)
	}
	cfg, err := ApplyChanges(image.Config{Config: base}, changes)
	if len(cfg.History) > 0 {
		t.Errorf("history %v", cfg.History)
	}
	return cfg.Config, err
}

func TestApplyChanges(t *testing.T) {
	base := image.RunConfig{}
	base.Env, base.Cmd, base.WorkingDir = []string{"A=1"}, []string{"old"}, "/w"
	base.OnBuild = []string{"RUN first"}
	tests := []struct {
		name  string
		texts []string
		want  string // JSON of the fields below
	}{
		{"env", []string{"ENV B=$A A=2"}, `"Env":["A=2","B=1"]`},
		{"an entry point clears the command", []string{`ENTRYPOINT ["x"]`}, `"Entrypoint":["x"],"WorkingDir"`},
		{"not one that was changed too", []string{"CMD new", `ENTRYPOINT ["x"]`}, `"Entrypoint":["x"],"Cmd":["/bin/sh","-c","new"]`},
		{"shell", []string{`SHELL ["bash","-c"]`, "CMD new"}, `"Cmd":["bash","-c","new"]`},
		{"workdir", []string{"WORKDIR sub"}, `"WorkingDir":"/w/sub"`},
		{"expose", []string{"EXPOSE 80-81 53/udp"}, `"ExposedPorts":{"53/udp":{},"80/tcp":{},"81/tcp":{}}`},
		{"trigger", []string{"ONBUILD RUN second"}, `"OnBuild":["RUN first","RUN second"]`},
		{"health", []string{"HEALTHCHECK NONE"}, `"Healthcheck":{"Test":["NONE"]}`},
		{"the rest", []string{"USER $A", "VOLUME /v", "LABEL k=\"$A b\"", "STOPSIGNAL SIGINT"}, `"User":"1"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rc, err := afterChanges(t, base, test.texts...)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(rc)
			if err != nil || !strings.Contains(string(text), test.want) {
				t.Errorf("%s, %v", text, err)
			}
		})
	}
	if base.Env[0] != "A=1" || len(base.OnBuild) != 1 {
		t.Errorf("the original was changed: %+v", base)
	}
}

func TestChangesRefused(t *testing.T) {
	for text, want := range map[string]string{
		"RUN make": "RUN cannot be applied", "COPY a b": "COPY cannot be applied", "FROM x": "not one instruction",
		"ENV A=1\nENV B=2": "not one instruction", "": "not one instruction", "EXPOSE what": "invalid port", "STOPSIGNAL nothing": "signal",
		"FOO": "unknown instruction",
	} {
		_, err := afterChanges(t, image.RunConfig{}, text)
		var bad *parser.Error
		var hinted *Hinted
		var at *ChangeError
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want)) || !errors.As(err, &bad) && !errors.As(err, &hinted) && !errors.As(err, &at) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
