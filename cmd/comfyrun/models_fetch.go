package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

// fetchFlags are the flags of models fetch.
type fetchFlags struct {
	storeFlags
	sources   sourceFlags
	nodes     nodeFlags
	workflows []string
	dryRun    bool
	json      bool
}

const fetchHelp = `Fetch puts the files that models.lock pins into home's store: all, those named, or those that the workflows of --for name.
A file that a folder of --models has is adopted as it is, without a copy. What was fetched by a process that was killed is
not fetched again, and several processes that share a home fetch each file once.

Sources of an entry are tried in order. Content is checked as it arrives; a piece that is wrong is fetched again from the next
source.`

func modelsFetchCommand() *cobra.Command {
	var flags fetchFlags
	cmd := &cobra.Command{
		Use:     "fetch [FOLDER/NAME…]",
		Short:   "Fetch the files that models.lock pins",
		Long:    fetchHelp,
		Example: "  comfyrun models fetch --for default.json --s3-endpoint https://minio.example:9000",
		RunE:    func(cmd *cobra.Command, args []string) error { return flags.run(cmd, args) },
	}
	flags.storeFlags.add(cmd)
	flags.sources.add(cmd)
	flags.nodes.add(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&flags.workflows, "for", nil, "only what this workflow names; may be repeated")
	f.BoolVarP(&flags.dryRun, "dry-run", "n", false, "print what would be done")
	f.BoolVar(&flags.json, "json", false, "print JSON: the plan, or an object per event")
	return cmd
}

func (f *fetchFlags) run(cmd *cobra.Command, args []string) error {
	c, err := f.open(cmd, true)
	if err != nil {
		return err
	}
	fetcher, _, err := f.sources.fetcher(c.home, c.folders, c.digests)
	if err != nil {
		return err
	}
	entries, err := f.entries(cmd, c, args)
	if err != nil {
		return err
	}
	plan, err := fetcher.Plan(cmd.Context(), entries)
	if err != nil {
		return err
	}
	if f.dryRun {
		return printFetchPlan(cmd, plan, f.json)
	}
	var lines func(fetchLine)
	if f.json {
		lines = func(line fetchLine) { printLine(cmd.OutOrStdout(), line) }
	}
	report := newFetchReporter(cmd.ErrOrStderr(), plan.Bytes, lines)
	fetcher.Events = report.event
	err = fetcher.Fetch(cmd.Context(), plan)
	report.end()
	if err != nil || f.json {
		return err
	}
	for _, item := range plan.Items {
		fmt.Fprintln(cmd.OutOrStdout(), fetcher.Store.Name(item.Entry))
	}
	return nil
}

// entries are what the arguments and --for ask for; everything without any.
func (f *fetchFlags) entries(cmd *cobra.Command, c *storeContext, names []string) ([]models.Entry, error) {
	if len(f.workflows) == 0 {
		return c.chosen(names)
	}
	var entries []models.Entry
	if len(names) > 0 {
		chosen, err := c.chosen(names)
		if err != nil {
			return nil, err
		}
		entries = chosen
	}
	named, err := c.named(cmd, &f.nodes, f.workflows)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, n := range named {
		if n.entry == nil {
			if _, err := c.folders.Path(n.use.folder, n.use.name); err != nil {
				return nil, n.unpinned(f.lock)
			}
		} else if !seen[n.entry.Name] {
			seen[n.entry.Name] = true
			entries = append(entries, *n.entry)
		}
	}
	return entries, nil
}

func printFetchPlan(cmd *cobra.Command, plan *fetch.Plan, asJSON bool) error {
	w := cmd.OutOrStdout()
	if asJSON {
		return printJSON(w, plan)
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, item := range plan.Items {
		from := ""
		switch item.Action {
		case fetch.ActionAdopt:
			from = item.File
		case fetch.ActionFetch:
			from = item.Entry.Sources[0]
			if more := len(item.Entry.Sources) - 1; more > 0 {
				from += fmt.Sprintf(" and %d more", more)
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", item.Action, item.Entry.Name, sizeText(item.Entry.Size), from)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "to fetch: %s, free: %s\n", sizeText(plan.Bytes), sizeText(plan.Free))
	return err
}
