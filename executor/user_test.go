package executor

import (
	"slices"
	"strings"
	"testing"
)

func TestLookupUser(t *testing.T) {
	const passwd = `# comment
root:x:0:0:root:/root:/bin/sh
bob:x:1000:100:Bob:/home/bob:/bin/sh

1234:x:5678:5678:a name of digits:/:/bin/sh
short:x:7:8
broken:x:nine:9:::
twin:x:1000:200::/twin:
homeless:x:44:44:::
`
	const group = `root:x:0:root
users:x:100:
audio:x:29:alice,bob
video:x:44:bob
999:x:1:
bad:x:y:bob
`
	for _, tt := range []struct {
		user     string
		uid, gid uint32
		groups   []uint32
		home     string
		err      string
	}{
		{user: "", home: "/root", groups: []uint32{0}},
		{user: "root", home: "/root", groups: []uint32{0}},
		{user: "0", home: "/root", groups: []uint32{0}},
		{user: "bob", uid: 1000, gid: 100, groups: []uint32{29, 44}, home: "/home/bob"},
		{user: "1000", uid: 1000, gid: 100, groups: []uint32{29, 44}, home: "/home/bob"},
		{user: "1234", uid: 1234, home: "/"},
		{user: "short", uid: 7, gid: 8, home: ""},
		{user: "homeless", uid: 44, gid: 44, home: ""},
		{user: "bob:audio", uid: 1000, gid: 29, home: "/home/bob"},
		{user: "bob:29", uid: 1000, gid: 29, home: "/home/bob"},
		{user: "1000:7777", uid: 1000, gid: 7777, home: "/home/bob"},
		{user: "4321:audio", uid: 4321, gid: 29, home: "/"},
		{user: "4321:1234", uid: 4321, gid: 1234, home: "/"},
		{user: "4321:999", uid: 4321, gid: 999, home: "/"},
		{user: "root:", home: "/root", groups: []uint32{0}},
		{user: ":audio", gid: 29, home: "/root"},
		{user: "2147483647", uid: 2147483647, home: "/"},
		{user: "2147483648", err: "out of range"},
		{user: "99999999999999999999", err: "out of range"},
		{user: "-1", err: "no matching entry in passwd file"},
		{user: "nobody", err: "find user nobody: no matching entry in passwd file"},
		{user: "broken", err: "no matching entry in passwd file"},
		{user: "bob:none", err: "find group none: no matching entry in group file"},
		{user: "bob:2147483648", err: "out of range"},
		{user: "bob:bad", err: "no matching entry in group file"},
	} {
		t.Run(tt.user, func(t *testing.T) {
			got, err := LookupUser(tt.user, []byte(passwd), []byte(group))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want an error with %q", err, tt.err)
				}
				return
			}
			if err != nil || got.UID != tt.uid || got.GID != tt.gid || got.Home != tt.home || !slices.Equal(got.Groups, tt.groups) {
				t.Errorf("got %+v, %v, want %d:%d %v %s", got, err, tt.uid, tt.gid, tt.groups, tt.home)
			}
		})
	}
}

func TestLookupUserWithoutFiles(t *testing.T) {
	for user, want := range map[string]UserInfo{
		"":          {Home: "/"},
		"0":         {Home: "/"},
		"12":        {UID: 12, Home: "/"},
		"12:34":     {UID: 12, GID: 34, Home: "/"},
		"root:root": {Home: "/"},
		"12:root":   {UID: 12, Home: "/"},
		"root:34":   {GID: 34, Home: "/"},
	} {
		got, err := LookupUser(user, nil, nil)
		if err != nil || got.UID != want.UID || got.GID != want.GID || got.Home != want.Home || got.Groups != nil {
			t.Errorf("%q: got %+v, %v", user, got, err)
		}
	}
	for _, user := range []string{"bob", "12:audio", "bob:root", "root:audio"} {
		if _, err := LookupUser(user, nil, nil); err == nil {
			t.Errorf("%q: no error", user)
		}
	}
	if got, err := LookupUser("root", nil, nil); err == nil {
		t.Errorf("root by name without a passwd file: got %+v", got)
	}
}

func FuzzLookupUser(f *testing.F) {
	f.Add("bob:audio", []byte(testPasswd), []byte(testGroup))
	f.Add("1000", []byte("a:b:c:d:e:f\n::::\n#"), []byte("x:y:z:w,"))
	f.Fuzz(func(t *testing.T, user string, passwd, group []byte) {
		info, err := LookupUser(user, passwd, group)
		if err == nil && (info.UID > maxID || info.GID > maxID || info.Home == "") {
			t.Errorf("got %+v", info)
		}
	})
}
