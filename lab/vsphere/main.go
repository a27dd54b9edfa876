// Command lab-vsphere is a vCenter for the lab: govmomi's simulator with
// virtual machines whose disks, snapshots and changed-block tracking are real
// files, kept in a state folder and found again at the next start.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	scenario := flag.String("scenario", "", "JSON file that says what exists (needed for a new state folder, ignored by an old one)")
	state := flag.String("state", "", "folder for datastores, certificate and state: empty, or left by an earlier run (required)")
	listen := flag.String("listen", "127.0.0.1:0", "address of the vSphere API, https")
	admin := flag.String("admin", "127.0.0.1:0", "address of the admin endpoint, plain http")
	nfc := flag.String("nfc", "127.0.0.1:0", "address where the ESXi hosts greet as their port 902 does")
	stdin := flag.Bool("exit-with-stdin", false, "end when standard input is closed")
	flag.Parse()
	if *state == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := serve(*scenario, *state, *listen, *admin, *nfc, *stdin); err != nil {
		log.Fatal(err)
	}
}

func serve(scenario, state, listen, admin, nfc string, stdin bool) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	if stdin {
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); stop <- syscall.SIGTERM }()
	}
	// The simulator's own temporary files lie in our folder, where a kill leaves no litter.
	temporary, err := filepath.Abs(filepath.Join(state, "temporary"))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(temporary); err != nil {
		return err
	}
	if err := os.MkdirAll(temporary, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := os.Setenv("TMPDIR", temporary); err != nil {
		return err
	}
	lab, err := Start(state, scenario, listen)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", admin)
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(l, lab.Admin()) }()

	n, err := net.Listen("tcp", nfc)
	if err != nil {
		return err
	}
	go greet(n)

	// One line once everything answers: the sign of readiness.
	ready, _ := json.Marshal(map[string]any{
		"url": lab.URL(), "adminUrl": "http://" + l.Addr().String(), "username": lab.User, "password": lab.Password,
		"fingerprintSha256": lab.cert.sha256(), "thumbprintSha1": lab.cert.sha1(), "root": lab.root, "nfcPort": n.Addr().(*net.TCPAddr).Port, "pid": os.Getpid(),
	})
	fmt.Println(string(ready))
	<-stop // at once: what must last is saved, and a pending WaitForUpdatesEx would hold us for minutes
	return nil
}

// greet answers as an ESXi host's authentication daemon, and hangs up.
func greet(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "220 VMware Authentication Daemon Version 1.10: SSL Required, ServerDaemonProtocol:SOAP\r\n")
		_ = c.Close()
	}
}
