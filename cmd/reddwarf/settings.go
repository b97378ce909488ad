package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// defaultSettings is where the settings of a host are looked for.
const defaultSettings = defaultIdentityDir + "/config.yaml"

const configFlag = "config"

// registerSettings gives a command the flag that names the host's settings.
// Every command of a host has it, so that all of them agree with the agent.
func registerSettings(f *pflag.FlagSet) {
	f.String(configFlag, defaultSettings, "YAML file with settings: the flags of \"reddwarf node\" by their names; flags that are given win")
}

// readSettings fills in the flags of cmd that were not given, from the file
// that --config names. The file may set what "reddwarf node" has a flag for,
// also where cmd has none. The default file may be missing.
func readSettings(cmd *cobra.Command, _ []string) error {
	named := cmd.Flags().Lookup(configFlag)
	if named == nil {
		return nil
	}
	path := named.Value.String()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named.Changed {
		return nil
	}
	if err != nil {
		return &settingsError{fmt.Errorf("--config: %w", err)}
	}
	if err := applySettings(cmd.Flags(), b); err != nil {
		return &settingsError{fmt.Errorf("%s: %w", path, err)}
	}
	return nil
}

// applySettings is readSettings without the file. All faults are named, and
// then nothing can be relied on.
func applySettings(f *pflag.FlagSet, file []byte) error {
	var settings map[string]any
	if err := yaml.UnmarshalStrict(file, &settings); err != nil {
		return err
	}
	known := pflag.NewFlagSet("node", pflag.ContinueOnError)
	new(config).register(known)
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if known.Lookup(name) == nil || name == configFlag {
			faults = append(faults, fmt.Errorf("%s: no such setting; \"reddwarf node --help\" lists them, without the dashes before them", name))
			continue
		}
		flag := f.Lookup(name)
		if flag == nil || flag.Changed {
			// Checked all the same: a fault must not wait for another command.
			flag = known.Lookup(name)
		}
		if err := set(flag.Value, settings[name]); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(faults...)
}

// set gives a flag a value of YAML. A flag of several values takes a list or
// one value, one of pairs takes a mapping.
func set(flag pflag.Value, value any) error {
	several, isSlice := flag.(pflag.SliceValue)
	isMap := flag.Type() == "stringToString"
	switch v := value.(type) {
	case []any:
		if !isSlice {
			return errors.New("one value is wanted, not a list")
		}
		all := make([]string, 0, len(v))
		for _, e := range v {
			s, err := scalar(e)
			if err != nil {
				return err
			}
			all = append(all, s)
		}
		return several.Replace(all)
	case map[string]any:
		if !isMap {
			return errors.New("no mapping is wanted")
		}
		pairs := make([]string, 0, len(v))
		for _, key := range slices.Sorted(maps.Keys(v)) {
			s, err := scalar(v[key])
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			pairs = append(pairs, key+"="+s)
		}
		return flag.Set(csvRecord(pairs))
	default:
		s, err := scalar(v)
		switch {
		case err != nil:
			return err
		case isMap:
			return errors.New("a mapping is wanted, such as {key: value}")
		case isSlice:
			return several.Replace([]string{s})
		}
		return flag.Set(s)
	}
}

// scalar returns a value of YAML as it would be written on a command line.
func scalar(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case nil:
		return "", errors.New("no value")
	}
	return "", fmt.Errorf("a text, a number or true or false is wanted, not %v", value)
}

// csvRecord writes fields as pflag reads them back, whatever is in them.
func csvRecord(fields []string) string {
	if len(fields) == 0 {
		return ""
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	w.Write(fields) //nolint:errcheck // a strings.Builder takes all
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

// settingsError is a fault in what the operator has set: trying again will not
// help.
type settingsError struct{ err error }

func (e *settingsError) Error() string { return e.err.Error() }
func (e *settingsError) Unwrap() error { return e.err }
