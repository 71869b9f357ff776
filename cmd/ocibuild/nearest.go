package main

import "strings"

// nearest gives the word most like s, or "" when none is near enough to be
// what the user meant.
func nearest(s string, words []string) string {
	best, limit := "", len(s)/3+1
	for _, w := range words {
		d := distance(strings.ToLower(s), w)
		if d <= limit && (best == "" || d < distance(strings.ToLower(s), best)) {
			best = w
		}
	}
	return best
}

// distance is the number of edits (insert, delete, replace, swap of
// neighbours) that turn a into b.
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
