package provider

import (
	"errors"

	"reddwarf.io/reddwarf/provider/ledger"
	"reddwarf.io/reddwarf/storage"
)

// ImageUsers returns which pods use an image, as NAMESPACE/NAME, by image ID.
func (p *Provider) ImageUsers() map[string][]string {
	var records []ledger.Record
	for _, w := range p.all() {
		w.mu.Lock()
		records = append(records, ledger.Record{Pod: w.pod, State: w.st})
		w.mu.Unlock()
	}
	return ledger.ImageUsers(records)
}

// imageGone makes a pod resolve an image again whose dataset is not there any
// more: an administrator may have destroyed it after it was pulled. err is why a
// clone of it could not be made; what is returned is err.
func (w *worker) imageGone(err error, forget func(st *ledger.State)) error {
	if !errors.Is(err, storage.ErrNoImage) {
		return err
	}
	return errors.Join(err, w.change(forget))
}

// imageOf forgets what the image of a container was resolved to.
func imageOf(name string) func(*ledger.State) {
	return func(st *ledger.State) {
		if r := st.Container(name); r != nil {
			r.Image = nil
		}
	}
}

// volumeImage forgets what an image volume was resolved to.
func volumeImage(name string) func(*ledger.State) {
	return func(st *ledger.State) { delete(st.VolumeImages, name) }
}
