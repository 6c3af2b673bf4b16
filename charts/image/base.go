package main

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// shared is a library of this machine that the image needs.
type shared struct {
	name string // as programs ask for it, such as libc.so.6
	file string // where this machine has it
	to   string // where the image has it
}

// sharedLibraries lists what programs and libraries need to be opened, themselves left out: the loader that they name, and
// the libraries that they and those ask for. The C library opens no other by itself since version 2.34.
func sharedLibraries(files ...string) ([]shared, error) {
	found := map[string]shared{}
	for queue := files; len(queue) > 0; queue = queue[1:] {
		needed, loader, err := needs(queue[0])
		if err != nil {
			return nil, err
		}
		if loader != "" {
			found[filepath.Base(loader)] = shared{filepath.Base(loader), loader, "usr" + strings.TrimPrefix(loader, "/usr")}
		}
		for _, name := range needed {
			if _, ok := found[name]; ok || strings.HasPrefix(name, "ld-linux") {
				continue
			}
			file, err := findLibrary(name)
			if err != nil {
				return nil, fmt.Errorf("%s needs %s: %w", queue[0], name, err)
			}
			found[name] = shared{name, file, "usr" + strings.TrimPrefix(file, "/usr")}
			queue = append(queue, file)
		}
	}
	var list []shared
	for _, s := range found {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b shared) int { return cmp.Compare(a.name, b.name) })
	return list, nil
}

// needs reads which libraries and which loader an ELF file names.
func needs(file string) (libraries []string, loader string, err error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	if libraries, err = f.ImportedLibraries(); err != nil {
		return nil, "", fmt.Errorf("read %s: %w", file, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			text, err := io.ReadAll(p.Open())
			return libraries, string(bytes.TrimRight(text, "\x00")), err
		}
	}
	return libraries, "", nil
}

// findLibrary looks where Debian keeps libraries.
func findLibrary(name string) (string, error) {
	found, err := filepath.Glob("/usr/lib/*-linux-gnu/" + name)
	if err != nil || len(found) == 0 {
		found, err = filepath.Glob("/lib/*-linux-gnu/" + name)
	}
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%d files of this name below /usr/lib; the image's base is taken from a Debian machine of the same architecture", len(found))
	}
	return found[0], nil
}

// debian is a package of Debian that files of the image come from.
type debian struct{ name, version, arch string }

const (
	user          = 65532
	authorities   = "/usr/share/ca-certificates/mozilla"
	passwd, group = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/data:/sbin/nologin\n", "root:x:0:\nnonroot:x:65532:\n"
)

// baseLayer is what the image has of Debian, and the folders of a running container.
func baseLayer(libraries []shared) (layer, []debian, error) {
	l := layer{name: "base"}
	for _, link := range []string{"bin", "lib", "lib64", "sbin"} {
		l.add(entry{path: link, link: "usr/" + link})
	}
	for _, dir := range []string{"dev", "proc", "sys", "usr/bin", "usr/lib", "usr/lib64", "usr/sbin"} {
		l.add(entry{path: dir, mode: 0o755, dir: true})
	}
	l.add(entry{path: "tmp", mode: 0o1777, dir: true})
	l.add(entry{path: "data", mode: 0o755, owner: user, dir: true})
	l.add(entry{path: "etc/passwd", mode: 0o644, data: []byte(passwd)})
	l.add(entry{path: "etc/group", mode: 0o644, data: []byte(group)})
	l.add(entry{path: "etc/nsswitch.conf", mode: 0o644, data: []byte("hosts: files dns\n")})
	var files []string
	for _, s := range libraries {
		if err := l.copy(s.file, s.to, 0o755); err != nil {
			return l, nil, err
		}
		files = append(files, s.file)
	}
	certificates, err := authorityBundle()
	if err != nil {
		return l, nil, err
	}
	l.add(entry{path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: certificates})
	packages, err := owners(files, "ca-certificates")
	if err != nil {
		return l, nil, err
	}
	for _, p := range packages {
		if err := l.copy("/usr/share/doc/"+p.name+"/copyright", "usr/share/doc/"+p.name+"/copyright", 0o644); err != nil {
			return l, nil, err
		}
	}
	return l, packages, l.issue()
}

// issue adds what tells the distribution, which scanners of images read.
func (l *layer) issue() error { return l.copy("/etc/os-release", "usr/lib/os-release", 0o644) }

// authorityBundle joins the certificates of the package ca-certificates. The file that update-ca-certificates writes is not
// taken: a machine's own authorities are in it.
func authorityBundle() ([]byte, error) {
	files, err := filepath.Glob(authorities + "/*.crt")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("read certificates of authorities: %s has none; install ca-certificates", authorities)
	}
	var all bytes.Buffer
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read certificates of authorities: %w", err)
		}
		all.Write(bytes.TrimRight(data, "\n"))
		all.WriteByte('\n')
	}
	return all.Bytes(), nil
}

// owners lists the packages that files belong to, with others named, sorted.
func owners(files []string, names ...string) ([]debian, error) {
	for _, file := range files {
		name, err := ownerOf(file)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	var packages []debian
	for _, name := range slices.Compact(names) {
		out, err := exec.Command("dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${Architecture}\n", name).Output()
		fields := strings.Split(strings.TrimSpace(string(out)), "\t")
		if err == nil && len(fields) != 3 {
			err = fmt.Errorf("the answer is %q", out)
		}
		if err != nil {
			return nil, fmt.Errorf("ask dpkg for package %s: %w", name, err)
		}
		packages = append(packages, debian{fields[0], fields[1], fields[2]})
	}
	return packages, nil
}

// ownerOf names the package of a file. Packages that were made before /lib became a link list their files there.
func ownerOf(file string) (string, error) {
	var last error
	resolved, err := filepath.EvalSymlinks(file)
	if err != nil {
		return "", fmt.Errorf("find package: %w", err)
	}
	for _, name := range []string{file, resolved, strings.TrimPrefix(file, "/usr"), strings.TrimPrefix(resolved, "/usr")} {
		out, err := exec.Command("dpkg-query", "--search", name).Output()
		if err == nil {
			owner, _, _ := strings.Cut(string(out), ": ")
			return owner, nil
		}
		last = err
	}
	return "", fmt.Errorf("ask dpkg whose file %s is: %w", file, last)
}
