package ledger

// ImageUsers returns which pods use an image, as NAMESPACE/NAME, by image ID. A
// pod uses what it was resolved to until it has ended and has let go of the host:
// its containers' roots are clones of it.
func ImageUsers(records []Record) map[string][]string {
	users := map[string][]string{}
	for _, r := range records {
		if r.State.Released {
			continue
		}
		name := r.Pod.Namespace + "/" + r.Pod.Name
		seen := map[string]bool{}
		add := func(image *Image) {
			if image != nil && !seen[image.ID] {
				seen[image.ID] = true
				users[image.ID] = append(users[image.ID], name)
			}
		}
		for i := range r.State.Containers {
			add(r.State.Containers[i].Image)
		}
		for _, image := range r.State.VolumeImages {
			add(&image)
		}
	}
	return users
}
