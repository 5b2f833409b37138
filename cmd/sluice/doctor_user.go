package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Capabilities, as linux/capability.h numbers them.
const (
	capSysAdmin    = 21
	capSysResource = 24
	capBPF         = 39
)

// subject is for whom the doctor looks: what root may says nothing of what another may.
type subject struct {
	id        int
	effective uint64 // capabilities
	bounding  uint64
	noNew     bool // no_new_privs: files and set-user-ID give nothing
	initial   bool // the user namespace is the machine's own
}

func (u subject) has(capability int) bool     { return u.effective&(1<<capability) != 0 }
func (u subject) bounded(capability int) bool { return u.bounding&(1<<capability) != 0 }

// user reads who this process is.
func (m machine) user() (u subject, err error) {
	const status = "/proc/self/status"
	ids, err := m.line(status, "Uid:")
	if err != nil {
		return u, err
	}
	var actual int
	if _, err := fmt.Sscan(ids, &actual, &u.id); err != nil {
		return u, fmt.Errorf("%s: Uid: %w", status, err)
	}
	for prefix, into := range map[string]*uint64{"CapEff:": &u.effective, "CapBnd:": &u.bounding} {
		text, err := m.line(status, prefix)
		if err != nil {
			return u, err
		}
		if *into, err = strconv.ParseUint(text, 16, 64); err != nil {
			return u, fmt.Errorf("%s: %s %w", status, prefix, err)
		}
	}
	noNew, _ := m.line(status, "NoNewPrivs:") // of Linux 4.10
	u.noNew = noNew == "1"
	users, err := m.fields("/proc/self/uid_map")
	u.initial = slices.Equal(users, []string{"0", "0", "4294967295"})
	return u, err
}

// checkUser says for whom all else was tested.
func checkUser(m machine) (finding, error) {
	u, err := m.user()
	if err != nil {
		return finding{}, err
	}
	if u.id == 0 {
		return better(markNote, m.give(advice{
			docker: "--user 65532", pod: "securityContext: {runAsUser: 65532}", plain: "sluice doctor -user NAME",
		}), "all of this was tested as root: a sluice that runs as another user may be allowed less")
	}
	with := "without capabilities"
	if u.effective != 0 {
		with = fmt.Sprintf("with capabilities %x", u.effective)
	}
	return fine("all of this was tested as user %d, %s", u.id, with)
}

// doctorAs runs the command as another user: a process of its own, which has what the
// kernel gives that user, a file's capabilities included. Only root can. It returns the
// command's exit status.
func doctorAs(e env, name string, args []string) int {
	credential, err := credentialOf(name)
	if err == nil && os.Geteuid() != 0 && int(credential.Uid) != os.Geteuid() {
		err = fmt.Errorf("only root can test what user %d may: run it as that user, or as root", credential.Uid)
	}
	if err != nil {
		fmt.Fprintln(e.stderr, "sluice doctor: -user:", err)
		return exitFault
	}
	cmd := exec.Command("/proc/self/exe", append([]string{"doctor"}, args...)...)
	cmd.Args[0] = "sluice"
	cmd.Stdout, cmd.Stderr = e.stdout, e.stderr
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	}
	err = cmd.Run()
	var ended *exec.ExitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &ended) && ended.Exited():
		return ended.ExitCode()
	}
	fmt.Fprintf(e.stderr, "sluice doctor: as user %d: %v\n", credential.Uid, err)
	return exitFault
}

// credentialOf reads "NAME", "UID" or "UID:GID". Without a group it is that of the same
// number, or the user's own where there is a name for it.
func credentialOf(name string) (*syscall.Credential, error) {
	id, group, both := strings.Cut(name, ":")
	if _, err := strconv.Atoi(id); err != nil {
		known, err := account(id)
		if err != nil {
			return nil, err
		}
		id = known[2]
		if !both {
			group = known[3]
		}
	} else if !both {
		group = id
	}
	var numbers [2]uint32
	for i, text := range []string{id, group} {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n == math.MaxUint32 {
			return nil, fmt.Errorf("%q: want NAME, UID or UID:GID", name)
		}
		numbers[i] = uint32(n)
	}
	return &syscall.Credential{Uid: numbers[0], Gid: numbers[1]}, nil
}

// account is the fields of a user's line in /etc/passwd. Other sources of users would
// need the C library.
func account(name string) ([]string, error) {
	const file = "/etc/passwd"
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Split(line, ":"); fields[0] == name && len(fields) > 3 {
			return fields, nil
		}
	}
	return nil, fmt.Errorf("%q: not in %s", name, file)
}

// without is args, which fs has parsed, less one flag.
func without(fs *flag.FlagSet, name string) (args []string) {
	fs.Visit(func(f *flag.Flag) {
		if f.Name != name {
			args = append(args, fmt.Sprintf("-%s=%s", f.Name, f.Value))
		}
	})
	return args
}
