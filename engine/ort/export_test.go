package ort

// UseBinding makes a session on the CPU run as sessions on devices do, so that
// this is tested everywhere.
func (s *Session) UseBinding() error {
	s.turn = make(chan struct{}, 1)
	s.hostOnly.Store(false)
	var err error
	s.device, err = openDevice(s)
	return err
}

// CheckMemory reports whether the library knows the device's memory.
func (e *Env) CheckMemory(d Device) error {
	info, err := d.memory(e.api)
	if err == nil {
		releaseMemory(e.api, info)
	}
	return err
}
