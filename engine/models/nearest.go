package models

import (
	"path"
	"strings"
)

// nearest returns the name that was most likely meant: the one with the smallest edit distance, compared without case,
// directory and extension. "" when even that one differs in more than half of its letters.
func nearest(name string, names []string) string {
	want, best, found := stem(name), 0, ""
	for _, candidate := range names {
		have := stem(candidate)
		distance := editDistance(want, have)
		if distance > max(len(want), len(have))/2 {
			continue
		}
		if found == "" || distance < best {
			best, found = distance, candidate
		}
	}
	return found
}

func stem(name string) string {
	base := path.Base(strings.ToLower(strings.ReplaceAll(name, `\`, "/")))
	return strings.TrimSuffix(base, path.Ext(base))
}

// editDistance is Levenshtein's: the number of bytes to insert, remove or replace to get from a to b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
