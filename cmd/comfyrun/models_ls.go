package main

import (
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models"
)

func modelsListCommand() *cobra.Command {
	var flags storeFlags
	var long, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls [FOLDER]",
		Short: "List model files as workflows name them, with where they are",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.open(cmd, false)
			if err != nil {
				return err
			}
			list, err := c.list(args)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printModels(cmd, list, long)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVarP(&long, "long", "l", false, "with size, digest, licence, last use, and whether models.lock pins it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listedModel is a model file of a folder.
type listedModel struct {
	Folder  string     `json:"folder"`
	Name    string     `json:"name"`
	Path    string     `json:"path"`
	Size    int64      `json:"size"`
	SHA256  string     `json:"sha256,omitempty"` // of files of the store; of others models.lock's, when the size fits
	License string     `json:"license,omitempty"`
	Labels  []string   `json:"labels,omitempty"`
	Pinned  bool       `json:"pinned"`
	Stored  bool       `json:"stored"`         // in home's store, by content
	Used    *time.Time `json:"used,omitempty"` // of files of the store
}

func (c *storeContext) list(keys []string) ([]listedModel, error) {
	if len(keys) == 0 {
		keys = c.folders.Keys()
	} else if c.folders.Paths(keys[0]) == nil {
		return nil, usagef("list models: there is no folder %q; folders are %v", keys[0], c.folders.Keys())
	}
	blobs, err := c.store().Blobs()
	if err != nil {
		return nil, err
	}
	byName := map[string]models.Blob{}
	for _, b := range blobs {
		for _, name := range b.Names {
			byName[name] = b
		}
	}
	list := []listedModel{}
	for _, key := range keys {
		for _, name := range c.folders.Names(key) {
			if path, err := c.folders.Path(key, name); err == nil {
				list = append(list, c.describe(key, name, path, byName))
			}
		}
	}
	return list, nil
}

func (c *storeContext) describe(key, name, path string, blobs map[string]models.Blob) listedModel {
	m := listedModel{Folder: key, Name: name, Path: path}
	if info, err := os.Stat(path); err == nil {
		m.Size = info.Size()
	}
	entry, pinned := c.lock.Find(key + "/" + name)
	blob, stored := blobs[key+"/"+name]
	if inside, err := filepath.Rel(c.home.Models(), path); stored && err == nil && filepath.IsLocal(inside) {
		m.Stored, m.SHA256, m.Used = true, blob.Digest, &blob.Used
	}
	if pinned && m.SHA256 == "" && m.Size == entry.Size {
		m.SHA256 = entry.SHA256
	}
	if pinned && m.SHA256 == entry.SHA256 {
		m.Pinned, m.License, m.Labels = true, entry.License, entry.Labels
	}
	return m
}

func printModels(cmd *cobra.Command, list []listedModel, long bool) error {
	table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	for _, m := range list {
		if !long {
			fmt.Fprintf(table, "%s\t%s\t%s\n", m.Folder, m.Name, m.Path)
			continue
		}
		digest, license, used, pinned := "-", "-", "-", "-"
		if m.SHA256 != "" {
			digest = m.SHA256[:12]
		}
		if m.License != "" {
			license = m.License
		}
		if m.Used != nil {
			used = m.Used.Format(time.DateOnly)
		}
		if m.Pinned {
			pinned = "pinned"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Folder, m.Name, sizeText(m.Size), digest, pinned, license, used, m.Path)
	}
	return table.Flush()
}
