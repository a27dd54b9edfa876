// compose-check FILE... reads compose files with the compose specification's own loader, without any engine, and prints
// the loaded project as JSON. Profiles are all on; variables come from the environment and an .env beside the file.
//
// Exit 1 and the reason on stderr where a container engine would refuse the file.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	loaded, err := load(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "The compose file is refused:", err)
		os.Exit(1)
	}
	os.Stdout.Write(loaded)
}

func load(files []string) ([]byte, error) {
	options, err := cli.NewProjectOptions(files, cli.WithOsEnv, cli.WithEnvFiles(), cli.WithDotEnv, cli.WithProfiles([]string{"*"}))
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	return project.MarshalJSON()
}
