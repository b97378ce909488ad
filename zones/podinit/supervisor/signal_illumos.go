package supervisor

// The range of real-time signals (signal.h(3HEAD)).
const (
	rtMin = 42
	rtMax = 74
)
