/* What the files of pd_port share, and nobody else needs. */
#ifndef PD_PORT_PARTS_H
#define PD_PORT_PARTS_H

#include "pd_port.h"

#define RESERVED_BYTES (512u << 10) /* of the events, for what must not be lost */

/* pd_port_serve.c: what is told, what is due, what is sent. */
int64_t pd_port_clock(const struct pd_port *port);
void pd_port_count(_Atomic uint64_t *counter, uint64_t n);
void pd_port_tell(struct pd_port *port, struct pd_port_event event, const void *message);
void pd_port_tell_session(struct pd_port *port, uint32_t number);
void pd_port_place(struct pd_port *port, uint32_t at, struct pd_port_due due);
void pd_port_sift(struct pd_port *port, uint32_t at);
void pd_port_reschedule(struct pd_port *port, uint32_t session);
/* Everything that is due. Returns when the next packet is. */
int64_t pd_port_serve_due(struct pd_port *port);

/* Connections. pd_port_watch asks for what a connection waits for. */
void pd_port_watch(struct pd_port *port, uint32_t number);
void pd_port_link(struct pd_port *port, uint32_t number, uint32_t session);
void pd_port_unlink(struct pd_port *port, uint32_t number);
/* It is no longer ours: the event loop sends what is left, and closes. */
void pd_port_leave(struct pd_port *port, uint32_t number, enum pd_port_left code);
/* A message for it alone, after what was begun, and sends; one that must arrive and can't ends the connection. */
void pd_port_give(struct pd_port *port, uint32_t number, const void *message, uint32_t bytes,
                  int must);
void pd_port_announce(struct pd_port *port, uint32_t session, const char *state);
/* All that it is owed, as far as its socket takes it. */
void pd_port_flush(struct pd_port *port, uint32_t number);

/* pd_port_receive.c: one read of a connection, and all whole messages in it. */
void pd_port_receive(struct pd_port *port, uint32_t number);
/* Those who sent too much are read again. */
void pd_port_forgive(struct pd_port *port, int64_t now_ns);

#endif
