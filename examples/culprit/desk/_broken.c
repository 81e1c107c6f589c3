/* A parser that believes its input: it follows a pointer that nobody has set. */
#include <stddef.h>

struct node { struct node *next; int length; };

int parse(const char *text) {
    struct node *root = NULL;
    return text[0] == '<' ? root->next->length : 0;
}
