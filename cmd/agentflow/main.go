// Command agentflow is the platform on one machine, and the tool for working with one anywhere.
package main

import "os"

func main() { os.Exit(execute(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)) }
